"""How far training is: tqdm's bar on a terminal, one line of text in a notebook, else nothing.

A notebook is stored with what its cells put out, and a widget that no kernel stands behind any more
is stored as a broken one. So there it is plain text, replaced in place and removed at the end.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

INTERVAL = 0.2  # seconds between two changes of what is shown


class Progress:
    """`with Progress(steps) as progress: progress(done)`; costs 0.1 us a call while all is quiet.

    shown  False shows nothing anywhere
    text   what to say besides the count, such as the loss; may be set at any time
    """

    def __init__(self, steps: int, shown: bool = True) -> None:
        self.steps, self.text = steps, ""
        self._bar: Any = None
        self._cell: Any = None
        self._due = float("inf")
        if not shown:
            return
        if in_notebook():
            import IPython.display  # type: ignore[import-not-found,unused-ignore]

            show: Any = IPython.display.display
            self._cell = show({"text/plain": "training"}, raw=True, display_id=True)
        elif sys.stderr is not None and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=steps, unit="step", leave=False)
        else:
            return
        self._due = 0.0

    def __enter__(self) -> Progress:
        return self

    def __call__(self, done: int) -> None:
        """Show that so many steps are done, if that was not shown a moment ago."""
        if time.perf_counter() < self._due:
            return
        self._due = time.perf_counter() + INTERVAL
        if self._bar is not None:
            self._bar.set_postfix_str(self.text, refresh=False)
            self._bar.update(done - self._bar.n)
        elif self._cell is not None:
            line = f"step {done:,} of {self.steps:,}  {self.text}"
            self._cell.update({"text/plain": line}, raw=True)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._cell is not None:
            self._cell.update({}, raw=True)  # the stored notebook keeps nothing of it


def in_notebook() -> bool:
    """Whether what is displayed goes to a notebook (a kernel), not to a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
