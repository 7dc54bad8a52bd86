"""A session of the MCP SDK's Python client with the server that the command line names; its results as JSON.

usage: session.py CALLS COMMAND [ARGUMENT...], CALLS being a JSON list of [tool, arguments]
"""

import asyncio
import json
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client


async def main(calls: list[tuple[str, dict[str, object]]], command: str, *args: str) -> None:
    """Initializes, lists the tools, makes the calls one after the other."""
    server = StdioServerParameters(command=command, args=list(args))
    async with stdio_client(server) as (read, write), ClientSession(read, write) as session:
        started = await session.initialize()
        tools = await session.list_tools()
        results = [await session.call_tool(tool, arguments) for tool, arguments in calls]
    answers = [started, tools, *results]
    print(json.dumps([answer.model_dump(mode="json", by_alias=True, exclude_none=True) for answer in answers]))


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), *sys.argv[2:]))
