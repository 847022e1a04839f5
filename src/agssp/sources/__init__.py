"""Public data sets: what their owners distribute, brought to the one schema."""
