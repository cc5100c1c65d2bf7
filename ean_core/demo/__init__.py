"""The page of ``tools/demo.py``: predictions, a look inside, schemes and searches in a browser.

``predict.py``, ``inside.py``, ``schemes.py`` and ``searches.py`` compute what the four tabs show and know nothing of
HTTP. ``app.py`` has the addresses, ``pages/`` what the browser gets, ``guard.py`` and ``queue.py`` the limits.
"""
