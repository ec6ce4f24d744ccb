"""Which weights train, at which rate, from the first step to the last: everything follows from how far training is.

All parameter groups are built at the start and stay. What trains is gated by `requires_grad` alone, and derived from
the progress, so that a run that is taken up again needs no history of unfreezing.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from imaging_ft.models.factory import Classifier
from imaging_ft.models.stages import parameter_depths, parameter_stages
from imaging_ft.training.average import move
from imaging_ft.training.schedule import rate, unfrozen
from imaging_ft.training.settings import TrainSettings

_MOMENTS = ("exp_avg", "exp_avg_sq")
_STATE = (*_MOMENTS, "step")


class Optimiser:
    """AdamW with a rate for each depth, an annealed schedule, stages that join by and by, and L2-SP."""

    def __init__(self, model: Classifier, settings: TrainSettings, *, steps: int) -> None:
        self._settings = settings
        self._steps = max(1, steps)
        self._names = {parameter: name for name, parameter in model.named_parameters()}
        self._stages = parameter_stages(model)
        self._affine = _affine(model)
        self._fused = all(parameter.is_cuda for parameter in self._names)
        """One launch for a group's weights; on a CPU AdamW's default, so that runs there stay the same in every bit."""
        self._groups = AdamW(_groups(model, settings), fused=self._fused or None)
        self._peaks = [float(group["lr"]) for group in self._groups.param_groups]
        self._start: dict[nn.Parameter, Tensor] = {}
        if settings.l2_sp:
            self._start = {
                p: p.detach().clone() for name, p in model.named_parameters() if self._stages[name] != "head"
            }

    @property
    def raw(self) -> AdamW:
        """Torch's optimiser."""
        return self._groups

    @property
    def rate(self) -> float:
        """The largest rate as it stands: the head's."""
        return max(float(group["lr"]) for group in self._groups.param_groups)

    def prepare(self, step: int, *, factor: float = 1.0) -> None:
        """Set the rates and what trains for a step; `factor` is on all rates."""
        s = self._settings
        share = rate(step, self._steps, kind=s.annealing, warmup=s.warmup)
        for group, peak in zip(self._groups.param_groups, self._peaks, strict=True):
            group["lr"] = peak * share * factor
        joined = set(unfrozen(step / self._steps, s.unfreeze_over)) - set(s.freeze)
        for parameter, name in self._names.items():
            wanted = self._stages[name] in joined
            if s.trained == "affine":
                wanted = wanted and (name in self._affine or self._stages[name] == "head")
            parameter.requires_grad_(wanted)
            if not wanted:
                parameter.grad = None

    def trainable(self) -> list[nn.Parameter]:
        """Return the parameters that train in this step."""
        return [parameter for parameter in self._names if parameter.requires_grad]

    def pull_back(self) -> None:
        """After a step, pull the backbone towards its starting weights: L2-SP (Li, Grandvalet & Davoine 2018).

        Decoupled from the gradient, as AdamW's decay is (Loshchilov & Hutter 2019): w ← w − lr λ (w − w₀).
        """
        for group in self._groups.param_groups:
            pulled = [p for p in group["params"] if p in self._start and p.requires_grad]
            if pulled:
                move(pulled, [self._start[p] for p in pulled], min(1.0, group["lr"] * self._settings.l2_sp))

    def state(self) -> dict[str, Tensor]:
        """Return the moments by parameter: `exp_avg/NAME` and so on."""
        found: dict[str, Tensor] = {}
        for parameter, name in self._names.items():
            moments = self._groups.state.get(parameter)
            if moments:
                found |= {f"{kind}/{name}": moments[kind] for kind in _STATE}
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the moments that `state` gave."""
        self._groups.state.clear()
        for parameter, name in self._names.items():
            if f"exp_avg/{name}" in tensors:
                step = tensors[f"step/{name}"].to(parameter.device if self._fused else "cpu", copy=True)
                # In the parameter's memory layout, which fused steps insist on, and files don't keep.
                moments = {kind: torch.empty_like(parameter).copy_(tensors[f"{kind}/{name}"]) for kind in _MOMENTS}
                self._groups.state[parameter] = {**moments, "step": step}

    def share(self) -> float:
        """Return the share of the weights that train at the end of the schedule."""
        self.prepare(self._steps)
        trained = sum(parameter.numel() for parameter in self.trainable())
        return trained / sum(parameter.numel() for parameter in self._names)


def _affine(model: nn.Module) -> set[str]:
    """Return the names of the scales and shifts of normalisation layers."""
    return {
        f"{name}.{own}"
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        for own, parameter in module.named_parameters(recurse=False)
        if parameter.ndim == 1
    }


def _groups(model: Classifier, settings: TrainSettings) -> Iterable[dict[str, object]]:
    """Return a group for each depth and kind; biases and norms are not decayed."""
    depths, top = parameter_depths(model)
    grouped: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        grouped.setdefault((depths[name], parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": settings.learning_rate * settings.layer_decay ** (top - depth),
            "weight_decay": settings.weight_decay if decayed else 0.0,
        }
        for (depth, decayed), parameters in grouped.items()
    ]
