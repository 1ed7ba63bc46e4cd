"""What the tools of `echo_mcp` take."""

SCHEMA = {
    "additionalProperties": False,
    "properties": {"message": {"type": "string"}},
    "required": ["message"],
    "type": "object",
}
