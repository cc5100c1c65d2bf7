"""Attempts to break the project: damaged files, wrong entries, kills, full disks, two runs in one place.

``campaign.py`` makes thousands of them, the tests here a few; ``docs/reliability.md`` says what is promised.
"""
