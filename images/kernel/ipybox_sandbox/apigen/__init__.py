"""Typed Python APIs for MCP servers: hostile JSON Schemas in, one readable and harmless module per tool out.

schema    a tool's schemas, cut down to what a model can say; every name chosen here
models    datamodel-code-generator makes classes of it; what comes back is checked node by node
module    classes and documentation become the source of a module, which is checked as a whole
package   the modules become `mcptools/<server>/`, replaced in one step
worker    the process that does it, kept warm beside the kernel gateway
"""
