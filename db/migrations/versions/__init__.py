"""The schema's revisions, one a module."""
