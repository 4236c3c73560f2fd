"""The memory: schema, migrations, repositories. Knows SQL; knows no torch, HTTP or Label Studio."""
