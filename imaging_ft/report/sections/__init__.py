"""The parts of the page, a module each: what stands in them, made from the report alone; the templates lay it out."""
