"""The core's verbs, by what they are about."""
