"""How the desk stands, for a supervisor: gathered, as JSON and as a page."""
