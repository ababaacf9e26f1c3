"""The ``.fbp`` language: text <-> ``Graph`` (reference: fbp-graph, section 2).

The grammar gives the structure: lines, statements, chains, elements, words. Which word of an element is the node and
which are its ports depends on the element's place in the chain; ``elements.py`` decides that.
"""

from __future__ import annotations

from collections.abc import Iterator

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from gateway.errors import GraphSyntaxError
from gateway.fbp.text.language_builder import LONGEST_TEXT, Builder, Element
from gateway.model.graph import Graph

GRAMMAR = r"""
    start: _line (_EOL _line)*
    _line: (_statement (_COMMA? _statement)* _COMMA?)?
    _statement: INPORT | OUTPORT | DEFAULT_INPORT | DEFAULT_OUTPORT | ANNOTATION | chain
    chain: element (_ARROW element)*
    element: WORD+ | TEXT | json

    json: STRING | NUMBER | array | object
    array: "[" _nl (_value _nl ("," _nl _value _nl)*)? "]"
    object: "{" _nl (pair (_COMMA _nl pair)*)? "}"
    pair: STRING _nl ":" _nl _value _nl
    _value: json | CONSTANT
    _nl: _EOL*

    INPORT.6: /INPORT=[A-Za-z0-9_()\/:=,-]+\.[A-Za-z0-9_.]+:[A-Za-z0-9_.]+/
    OUTPORT.6: /OUTPORT=[A-Za-z0-9_()\/:=,-]+\.[A-Za-z0-9_.]+:[A-Za-z0-9_.]+/
    DEFAULT_INPORT.6: /DEFAULT_INPORT=[A-Za-z_][A-Za-z0-9_.]*/
    DEFAULT_OUTPORT.6: /DEFAULT_OUTPORT=[A-Za-z_][A-Za-z0-9_.]*/
    ANNOTATION.6: /(?<![^\n\r\u2028\u2029])# +@[A-Za-z0-9_-]+ +[A-Za-z0-9_ .-]+(?=[\n\r\u2028\u2029])/
    COMMENT.5: /#[^\n\r\u2028\u2029]*/
    _ARROW: "->"
    _COMMA: ","
    _EOL: /[\n\r\u2028\u2029]/
    TEXT: /'(\\'|[^'\\]|\\(?!'))*'/
    STRING: /"(\\.|[^"\\\n])*"/
    NUMBER: /-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![A-Za-z0-9_.])/
    CONSTANT.3: "true" | "false" | "null"
    WORD.2: /([A-Za-z_](?:[A-Za-z0-9_.]|-(?!>))*)?(?:\[[0-9]{1,9}\]|\([A-Za-z0-9\/_-]*(?::[A-Za-z0-9\/=_,]+)?\))/
          | /[A-Za-z_](?:[A-Za-z0-9_.]|-(?!>))*(?![A-Za-z0-9_.\[(]|-(?!>))/
    %ignore COMMENT
    %ignore " "
"""

_PARSER = Lark(GRAMMAR, parser="lalr", lexer="contextual", propagate_positions=True)

_PLAIN = {
    "_ARROW": "an arrow ->",
    "_COMMA": "a comma",
    "_EOL": "the end of the line",
    "WORD": "a node or port",
    "TEXT": "a 'literal'",
    "STRING": 'a "text"',
    "NUMBER": "a number",
    "CONSTANT": "true, false or null",
    "LSQB": "an array",
    "RSQB": "]",
    "LBRACE": "an object",
    "RBRACE": "}",
    "COLON": "a colon",
    "COMMA": "a comma",
}
"""What may come next, in plain words; terminals that aren't here are no help to anybody."""


def parse(text: str, source: str = "graph", *, case_sensitive: bool = False) -> Graph:
    """The graph of a text. ``source`` names it in errors.

    Raises ``GraphSyntaxError`` with line, column and what was expected, or another ``GraphError`` for a node that is
    used but has no component, or is not there. Port names and exported names are lower-cased unless ``case_sensitive``.
    """
    if len(text) > LONGEST_TEXT:
        raise GraphSyntaxError(source, 1, 1, f"longer than {LONGEST_TEXT} characters: this is no graph")
    try:
        tree = _PARSER.parse(text)
    except UnexpectedInput as exc:
        raise _syntax_error(exc, text, source) from exc
    builder = Builder(source, case_sensitive, {str(word).partition("(")[0] for word in _declarations(tree)})
    for statement in tree.children:
        if isinstance(statement, Token):
            builder.directive(statement.type, str(statement), statement.line or 1, statement.column or 1)
        else:
            builder.chain([_element(child, text) for child in statement.children if isinstance(child, Tree)])
    return builder.graph()


def _declarations(tree: Tree[Token]) -> Iterator[Token]:
    """The words with parentheses. Literals, which may be nested deep, have none."""
    for chain in tree.children:
        for element in chain.children if isinstance(chain, Tree) else ():
            for word in element.children if isinstance(element, Tree) else ():
                if isinstance(word, Token) and word.type == "WORD" and "(" in word:
                    yield word


def _element(tree: Tree[Token], text: str) -> Element:
    line, column = tree.meta.line, tree.meta.column
    first = tree.children[0]
    if isinstance(first, Tree):
        return Element(line, column, json=text[first.meta.start_pos : first.meta.end_pos])
    if first.type == "TEXT":
        return Element(line, column, text=str(first)[1:-1].replace("\\'", "'"))
    if len(tree.children) == 1 and first.startswith("["):  # an index without its port, alone: a list of one number
        return Element(line, column, json=str(first))
    return Element(line, column, words=tuple(str(word) for word in tree.children))


def _syntax_error(exc: UnexpectedInput, text: str, source: str) -> GraphSyntaxError:
    line, column = exc.line, exc.column
    accepted: set[str] = set()
    if isinstance(exc, UnexpectedToken):
        accepted = set(exc.accepts or exc.expected)
    elif isinstance(exc, UnexpectedCharacters):
        accepted = set(exc.allowed or ())
    at_end = isinstance(exc, UnexpectedEOF) or (isinstance(exc, UnexpectedToken) and exc.token.type == "$END")
    if at_end:
        lines = text.split("\n")
        line, column = len(lines), len(lines[-1]) + 1
    found = "the end of the text" if at_end else _found(text, line, column)
    expected = sorted({_PLAIN[name] for name in accepted if name in _PLAIN})
    wanted = f"; expected {' or '.join(expected)}" if expected else ""
    return GraphSyntaxError(source, line, column, f"can't read {found}{wanted}")


def _found(text: str, line: int, column: int) -> str:
    lines = text.split("\n")
    rest = lines[line - 1][column - 1 :] if line <= len(lines) else ""
    return repr(rest[:20]) if rest else "the end of the line"
