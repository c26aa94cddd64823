"""A prompt into which the Python blocks of a page are pasted, one after the other. It needs nothing of the tests.

Standard input holds a line of JSON for each block, `{"code": …, "source": …}`; the answer is a line such as
`{"output": …, "error": …}`. A part of an example sees the names of its file, `source`. The argument is the file with
what a reader has before the first block, or `-`.
"""

import ast
import asyncio
import contextlib
import io
import json
import runpy
import sys
import traceback
from typing import Any


class _OwnParts(ast.NodeTransformer):
    """`...` in a list stands for what the reader has there."""

    def visit_List(self, node: ast.List) -> ast.AST:
        self.generic_visit(node)
        node.elts = [it for it in node.elts if not (isinstance(it, ast.Constant) and it.value is ...)]
        return node


def _paste(code: str, names: dict[str, Any], runner: asyncio.Runner) -> None:
    tree = compile(code, "<page>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    tree = ast.fix_missing_locations(_OwnParts().visit(tree))
    program = compile(tree, "<page>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(program, names)
    if asyncio.iscoroutine(result):
        runner.run(result)


def _names(path: str) -> dict[str, Any]:
    names = {} if path == "-" else runpy.run_path(path)
    names["__name__"] = "page"
    return names


def _main() -> None:
    blocks, answers = sys.stdin, sys.stdout
    sys.stdin = io.StringIO("y\n" * 20)  # every question is answered with yes
    names = _names(sys.argv[1])
    with asyncio.Runner() as runner:
        for line in blocks:
            printed, error = io.StringIO(), None
            with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                try:
                    block = json.loads(line)
                    if block["source"]:
                        names.update({**runpy.run_path(block["source"]), **names})
                    _paste(block["code"], names, runner)
                except BaseException:  # noqa: BLE001 - also SystemExit
                    error = traceback.format_exc(limit=-3)
            answers.write(json.dumps({"output": printed.getvalue(), "error": error}) + "\n")
            answers.flush()


if __name__ == "__main__":
    _main()
