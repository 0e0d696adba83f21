"""The verbs of `cxr` that the core alone cannot do: flows, services, the page."""
