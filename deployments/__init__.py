"""How the program runs: Prefect's server, its workers and the page, on this machine or as containers and units."""
