"""The engine by default, imported when the first model is asked for: an idle server stays small."""

from freehold.core.request import Request
from freehold.core.settings import Settings
from freehold.engines.base import Engine, Fit, ModelFile, Told, Worker, nobody


class Lazy:
    """llama.cpp, not yet imported."""

    name = "llamacpp"

    def __init__(self) -> None:
        self._engine: Engine | None = None

    def fits(self, model: ModelFile, settings: Settings) -> Fit:
        """What this model takes."""
        return self._loaded().fits(model, settings)

    async def start(self, model: ModelFile, settings: Settings, told: Told = nobody) -> Worker:
        """A ready worker."""
        return await self._loaded().start(model, settings, told)

    async def check(self, request: Request, settings: Settings) -> None:
        """Try what a worker would have to compile."""
        await self._loaded().check(request, settings)

    async def close(self) -> None:
        """End what runs beside the workers."""
        if self._engine is not None:
            await self._engine.close()

    def _loaded(self) -> Engine:
        if self._engine is None:
            from freehold.engines.llamacpp import LlamaCpp

            self._engine = LlamaCpp()
        return self._engine
