"""The per-condition accuracy report: measured on the file that ships, drawn as one offline page."""
