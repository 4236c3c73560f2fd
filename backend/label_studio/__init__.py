"""What Label Studio sends, accepts and means: configuration, results, shapes, requests and API.

Nothing here knows the model, the database or the service: `inspection_models` and `db` meet Label Studio one floor up.
"""
