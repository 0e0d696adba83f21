"""Streamlit's command line, which Ctrl-C ends without an error: its own would print `Aborted!` and exit with 1."""

import signal
import sys

from streamlit.web.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: sys.exit())
    main()
