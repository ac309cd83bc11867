"""The certificates of the project's own adapters, as files, and what renews and compares them."""
