"""The configuration: one schema with its defaults, and the loader that names the place of a mistake."""
