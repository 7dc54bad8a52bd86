"""See `mcpygen.tool_exec.client`."""
