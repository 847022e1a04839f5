"""Figures and self-contained HTML pages: what a run made, in pictures.

`pictures` draws on photographs (heat of an anomaly map, boxes), `figures` makes matplotlib figures of them and of
numbers, `page` writes sections of text, figures, tables and commands as one HTML file without outside resources.
"""
