#!/usr/bin/env python3
"""Start QuantConnect's own MCP server against a REST API of ours.

The published server knows one REST base only and reads a file from its working directory; this sets the first and
provides the second. Credentials come from QUANTCONNECT_USER_ID and QUANTCONNECT_API_TOKEN, as for any of its users.

    .venv/official/bin/python host/cli/tests/setup/official_server.py \
        --base http://127.0.0.1:PORT/api/v2 --transport stdio
    .venv/official/bin/python host/cli/tests/setup/official_server.py \
        --base http://127.0.0.1:PORT/api/v2 --transport http --port 0

Over stdio it ends with its standard input. Over streamable HTTP it serves http://127.0.0.1:PORT/mcp until it is
killed; with port 0 the system chooses, and the line "Uvicorn running on http://127.0.0.1:PORT" on standard error,
printed once it accepts connections, says which; standard output then carries a line for each request, so the process that
starts it drains or discards both. It opens no browser: it refuses the one tool that would.
"""

import argparse
import os
import tempfile
import webbrowser
from pathlib import Path


def refuse(*_args, **_kwargs):
    # The arguments stay out of the message: the URL lets its holder authorise a brokerage.
    raise RuntimeError("authorize_connection wants to open a browser, and this server runs without one")


def load(base):
    """Import the package's main module, and set its REST base in each module that holds a copy of it."""
    with tempfile.TemporaryDirectory() as directory:
        instructions = Path(directory, "src", "instructions.md")
        instructions.parent.mkdir()
        instructions.write_text("QuantConnect's MCP server, under test.\n", encoding="utf-8")
        before = os.getcwd()
        os.chdir(directory)
        try:
            import main as server
        finally:
            os.chdir(before)
    import api_connection
    import tools.live
    import tools.object_store

    for holder in (api_connection, tools.live, tools.object_store):
        holder.BASE_URL = base
    return server


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="REST base, such as http://127.0.0.1:5612/api/v2")
    parser.add_argument("--transport", choices=("stdio", "http"), default="stdio")
    parser.add_argument("--port", type=int, default=0, help="for http; 0 lets the system choose")
    return parser.parse_args()


def run():
    chosen = arguments()
    webbrowser.open = refuse
    server = load(chosen.base.rstrip("/"))
    server.mcp.settings.host = "127.0.0.1"
    server.mcp.settings.port = chosen.port
    server.mcp.run(transport={"stdio": "stdio", "http": "streamable-http"}[chosen.transport])


if __name__ == "__main__":
    run()
