"""Verdicts on the paper's trends: which of them our numbers show, and the likely reason where one does not.

Contract: a trend is a dict {'claim', 'metric', 'values', 'holds', 'why'}. 'holds' is None where it cannot be told: every
number comes from one seed, so that a difference below `margin` is taken for noise. 'why' is '' where the trend holds.
"""

from __future__ import annotations

from typing import Any, Mapping, Sequence

# Smaller differences say nothing. A metric's name begins with one of these.
MARGINS = {
  'psnr': 0.1,
  'ssim': 0.005,
  'lpips': 0.005,
  'cdcs': 0.005,
  'high_frequency_share': 0.005,
  'displacement': 0.005,
  'silhouette': 0.02,
}
BELOW_RESOLUTION = 'difference below resolution'


def margin(metric: str) -> float:
  """Returns the least difference of a metric that counts.

  Raises:
    ValueError: it is none of `MARGINS`.
  """
  for name, found in MARGINS.items():
    if metric.startswith(name):
      return found
  raise ValueError(f'No margin is known for {metric!r}; known: {", ".join(MARGINS)}.')


def higher(
  claim: str, metric: str, values: Mapping[str, float | None], *, why: str, missing: str = 'not computed'
) -> dict[str, Any]:
  """A trend: whether the first of two numbers is the higher one.

  Args:
    claim: what the paper says, in words.
    metric: what the numbers are; begins with a name in `MARGINS`.
    values: {whose: number} of two; None where it could not be computed.
    why: the likely reason in case that it is not.
    missing: why a number may be None.
  """
  first, second = values.values()
  if first is None or second is None:
    holds, why = None, missing
  elif not abs(first - second) >= margin(metric):
    holds, why = None, f'{BELOW_RESOLUTION} ({margin(metric):g})'
  else:
    holds = bool(first > second)
  return {'claim': claim, 'metric': metric, 'values': dict(values), 'holds': holds, 'why': '' if holds else why}


def of_models(
  claim: str, metric: str, first: str, second: str, models: Mapping[str, Mapping[str, Any]], **reasons: str
) -> dict[str, Any]:
  """As `higher`: whether `metric` of the model `first` is above that of `second`; a metric that one lacks is None."""
  return higher(claim, metric, {name: models[name].get(metric) for name in (first, second)}, **reasons)


def count(trends: Sequence[Mapping[str, Any]]) -> str:
  """Returns how many came out, for people: 'A of B', and how many more cannot be told."""
  unknown = sum(trend['holds'] is None for trend in trends)
  told = f'{sum(trend["holds"] is True for trend in trends)} of {len(trends) - unknown}'
  return told + f', {unknown} cannot be told' * bool(unknown)


def why(trends: Sequence[Mapping[str, Any]]) -> str:
  """Returns why trends did not come out, for people: each reason with its claims, or with their number if many."""
  texts = []
  for holds, words in ((False, 'not reproduced'), (None, 'cannot be told')):
    claims: dict[str, list[str]] = {}
    for trend in trends:
      if trend['holds'] is holds:
        claims.setdefault(trend['why'], []).append(trend['claim'])
    texts += [
      f'{words}: {", ".join(named) if len(named) < 3 else f"{len(named)} trends"} ({reason})'
      for reason, named in claims.items()
    ]
  return '; '.join(texts)
