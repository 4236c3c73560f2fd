"""The demonstration: Label Studio, the desk and a synthetic steel strip, started together on one machine."""
