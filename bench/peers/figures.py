"""Statistics of bench/peers: medians, quartiles, ratios to the best, geometric means, and which differences are more than noise."""
import math


def quantile(values, share):
    """Linear between the two nearest of the sorted values; `share` in [0, 1]."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    at = (len(ordered) - 1) * share
    low = math.floor(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def summary(values):
    """(median, lower quartile, upper quartile)."""
    return quantile(values, 0.5), quantile(values, 0.25), quantile(values, 0.75)


def best(medians, higher_is_better=False):
    """The name with the best of {name: value}; None when there is none."""
    if not medians:
        return None
    return (max if higher_is_better else min)(medians, key=lambda name: medians[name])


def ratio(value, of_best, higher_is_better=False):
    """How many times worse than the best: 1 is the best's own. Values that are not positive have no ratio."""
    if value <= 0 or of_best <= 0:
        return None
    return of_best / value if higher_is_better else value / of_best


def geometric_mean(ratios):
    """None when there are no ratios."""
    ratios = [r for r in ratios if r is not None]
    if not ratios:
        return None
    return math.exp(sum(math.log(r) for r in ratios) / len(ratios))


def behind(ours, others, higher_is_better=False, tie=1.05):
    """How we stand against the best other: None when level or ahead, else the ratio of the medians.

    Each is (median, lower quartile, upper quartile). Behind is whose median is worse by more than `tie`, and whose quartiles do not touch
    those of the best: the rest is noise.
    """
    if not others:
        return None
    name = best({key: value[0] for key, value in others.items()}, higher_is_better)
    theirs = others[name]
    worse = ratio(ours[0], theirs[0], higher_is_better)
    if worse is None or worse <= tie:
        return None
    overlaps = ours[2] >= theirs[1] if higher_is_better else ours[1] <= theirs[2]
    return None if overlaps else worse


def rounds_in_turn(names, rounds):
    """The order of each round: everybody is first, second and so on about as often, whatever drifts while it runs."""
    names = list(names)
    return [names[i % len(names):] + names[:i % len(names)] for i in range(rounds)] if names else []
