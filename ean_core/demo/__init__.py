"""The page of ``tools/demo.py``: predictions, a look inside, schemes and searches in a browser.

``predict.py``, ``inside.py``, ``schemes.py`` and ``searches.py`` compute what the four tabs show and know nothing of
HTTP. ``routes.py`` and ``routes_search.py`` have the addresses, ``app.py`` puts them together, ``pages/`` and
``static/`` are what the browser gets, ``guard.py``, ``queue.py`` and ``limits.py`` the limits.
"""
