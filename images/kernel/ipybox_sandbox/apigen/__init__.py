"""Typed Python APIs for MCP servers: hostile JSON Schemas in, one readable and harmless module per tool out.

schema    reads a tool's schemas, cut down to what a model can say; every name is chosen here
          (keywords, merging, references, constraints, names, nodes: its parts; tool_schema: what comes out)
models    datamodel-code-generator makes classes of it; what comes back is checked node by node
module    classes and documentation become the source of a module
verify    the last look: it consists of what a generated module consists of
package   the modules become `mcptools/<server>/`, replaced in one step
worker    the process that does it, kept warm beside the kernel gateway
"""
