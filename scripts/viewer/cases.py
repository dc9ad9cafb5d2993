"""The open cases: whose each is, and the engine's work on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fastapi import Request

from scripts.errors import UserError
from scripts.serving.engine import Engine, EngineError
from scripts.serving.security import session_of
from scripts.serving.uploads import in_user_words
from scripts.viewer.requests import NotFoundError
from scripts.viewer.store import Store, StoredCase

# Films of any origin are read, and marks found on them; a vertebra is made, the spine measured or exported.
OPENING_S, COMPUTING_S = 90.0, 300.0


class Cases:
    """Cases of all browsers.

    Args:
        store: where their files are.
        engine: that does the work.
    """

    def __init__(self, store: Store, engine: Engine) -> None:
        self.store, self.engine = store, engine

    def owned(self, request: Request, name: str) -> StoredCase:
        """An open case of the browser that asks.

        Raises:
            NotFoundError: it has no such case.
        """
        found = self.store.find(name, session_of(request))
        if found is None or found.candidates is not None:
            raise NotFoundError
        return found

    def collection(self, request: Request, name: str) -> tuple[StoredCase, dict[str, str]]:
        """A case whose films are still to be chosen, and the names of its files: as stored -> as the user's.

        Raises:
            NotFoundError: the browser that asks has no such case.
        """
        found = self.store.find(name, session_of(request))
        if found is None or found.candidates is None:
            raise NotFoundError
        return found, found.candidates

    def new(self, request: Request, size: int = 0) -> tuple[str, StoredCase]:
        """A new case of the browser that asks, with its id.

        Args:
            request: of the browser.
            size: bytes to make room for.

        Raises:
            UserError: the browser keeps no cookies.
            StoreFullError: there is no room.
        """
        owner = session_of(request)
        if not owner:
            raise UserError("this browser keeps no cookies; they are needed to keep two browsers apart")
        return self.store.create(owner, size)

    async def ask(self, case: StoredCase, what: str, function: str, *arguments: Any, **how: Any) -> Any:
        """Have the engine do something with a case.

        Paths of the service's folders mean nothing to the user: errors have the user's own file names.

        Args:
            case: the engine is given its folder.
            what: is asked for, in words, for errors.
            function: of the engine's process, as ``module.function``.
            arguments: of the function, after the folder.
            how: further arguments of `Engine.call`.

        Raises:
            UserError: the function said so.
            EngineError: it took too long or its process ended.
        """
        try:
            return await self.engine.call(
                function, case.folder, *arguments, on_end=lambda: self.store.clear(case), **how
            )
        except UserError as error:
            raise UserError(in_user_words(str(error), case.folder, case.names)) from error
        except EngineError as error:
            raise type(error)(what) from error

    async def open(self, request: Request, about: dict[str, Any]) -> dict[str, Any]:
        """Open films of this machine.

        Args:
            request: of the browser.
            about: paths as ``ap``, ``lat``, ``annotations``, ``geometry``, and how they are read as ``spacing``,
                ``turn``, ``mirror``, ``invert``.

        Returns:
            the case as the page shows it, with its ``id``.

        Raises:
            UserError: the films cannot be used.
        """
        name, case = self.new(request)
        try:
            wanted = dict(about)
            for key, value in about.items():
                if isinstance(value, Path):
                    wanted[key] = f"{key}{''.join(value.suffixes[-2:]) if value.name.endswith('.gz') else value.suffix}"
                    shutil.copyfile(value, case.folder / wanted[key])
                    case.names[wanted[key]] = str(value)
            described = await self.ask(case, "opening the films", "case.open_case", wanted, limit_s=OPENING_S)
        except BaseException:
            self.store.remove(name)
            raise
        return {"id": name, **described}
