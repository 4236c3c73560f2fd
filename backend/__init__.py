"""The desk: HTTP service, Label Studio contract, jobs and command line. Stands on `inspection_models` and `db`."""
