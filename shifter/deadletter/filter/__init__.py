"""The language that selects dead letters: lexer, fields, parser."""
