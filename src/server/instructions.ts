/** What a model needs to know beyond the tools' own descriptions. Clients put it in every prompt: at most 1,500 characters. */
export const INSTRUCTIONS = `ipybox runs Python in a stateful IPython kernel inside a sandbox without network or secrets.

Work in two steps:
1. register_mcp_server(server_name, server_params) connects an MCP server, which runs outside the sandbox, and writes a typed Python API to mcptools/<server_name>/. Secrets go in as placeholders: {"command": "npx", "args": ["-y", "..."], "env": {"API_KEY": "\${API_KEY}"}}.
2. Read mcptools/<server_name>/<tool>.py to see Params and Result, then call it in execute_ipython_cell:
   from mcptools.<server_name>.<tool> import Params, run
   result = run(Params(...))      # arun(...) with await and asyncio.gather
Combine several calls, loops and filtering in one cell; print only what you need.

Files: the workspace is mounted at its own path and is the cwd of cells; whatever is written there stays. Plots shown in a cell are saved under images/. Output over max_output_chars is cut; its whole is in the file that the answer names.
Limits: a cell stops after timeout seconds (default 120), variables are kept where possible. reset gives a new kernel. The kernel has no network: use install_package (or %pip install) for packages and registered MCP servers for everything outside.
Errors of MCP tools arrive as ipybox_sandbox.toolapi.ToolError, wrong arguments as pydantic's ValidationError.
.env files read as empty in the sandbox; .git and agent configuration are read-only.`;
