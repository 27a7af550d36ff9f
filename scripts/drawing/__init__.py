"""The picture and the table of docs/architecture.md, drawn from the code."""
