"""What the browser gets as it is: the style sheet, the script, the icon, and htmx 2.0.11 (https://htmx.org, 0BSD)."""
