"""Templates of the page (Jinja2)."""
