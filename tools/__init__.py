"""The tools: each file parses arguments and makes one library call. Installed, they are the commands of ``ean``."""
