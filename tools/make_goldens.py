#!/usr/bin/env python3
"""Writes tests/goldens/routing_<strategy>.json: routings by an independent NumPy implementation of
each strategy. Deterministic: running it again changes nothing. Usage: tools/make_goldens.py"""

import json
import math
import pathlib
import zlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "tests" / "goldens"
TOKENS, EXPERTS = 12, 16


def softmax(x):
    y = np.exp(x - x.max(axis=-1, keepdims=True))
    return y / y.sum(axis=-1, keepdims=True)


def top(score, k):
    return np.argsort(-score, axis=-1, kind="stable")[:, :k]


def pick(values, columns):
    return np.take_along_axis(values, columns, axis=-1)


def keep_groups(score, p, summed):
    """Scores with the experts of all but the best groups at -inf."""
    groups = score.reshape(len(score), p["n_group"], -1)
    score_of_group = -np.sort(-groups, axis=-1)[:, :, :summed].sum(axis=-1)
    kept = np.zeros(score_of_group.shape, dtype=bool)
    np.put_along_axis(kept, top(score_of_group, p["topk_group"]), True, axis=-1)
    return np.where(kept[:, :, None], groups, -np.inf).reshape(score.shape)


def topk_softmax(x, p, **_):
    probabilities = softmax(x)
    experts = top(x, p["top_k"])
    weights = pick(probabilities, experts)
    return experts, weights / weights.sum(axis=-1, keepdims=True) if p["norm_topk"] else weights


def top1(x, p, **_):
    experts = top(x, 1)
    return experts, pick(softmax(x), experts)


def topk_uniform(x, p, **_):
    experts = top(x, p["top_k"])
    return experts, np.full(experts.shape, 1 / p["top_k"])


def softk(x, p, **_):
    experts = top(x, p["top_k"])
    return experts, softmax(pick(x, experts) / p["temperature"])


def sigmoid_bias(x, p, bias, **_):
    s = 1 / (1 + np.exp(-x))
    experts = top(keep_groups(s + bias, p, 2), p["top_k"])
    weights = pick(s, experts)
    if p["norm_topk"]:
        weights = weights / (weights.sum(axis=-1, keepdims=True) + 1e-20)
    return experts, weights * p["routed_scaling_factor"]


def group_limited(x, p, **_):
    probabilities = softmax(x)
    experts = top(keep_groups(probabilities, p, 1), p["top_k"])
    weights = pick(probabilities, experts)
    if p["norm_topk"]:
        weights = weights / weights.sum(axis=-1, keepdims=True)
    return experts, weights * p["routed_scaling_factor"]


def philox4x32(counter, key):
    """Philox4x32-10 of Salmon et al. 2011, one block of four words."""
    mask = 0xFFFFFFFF
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k0, b & mask, (a >> 32) ^ c[3] ^ k1, a & mask]
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c


def draw(numbers, purpose, num_experts, p):
    """Floyd's sampling of K distinct experts for each number; weights 1/K."""
    k, seed = p["top_k"], p["seed"]
    key = (seed & 0xFFFFFFFF, seed >> 32)
    rows = []
    for number in numbers:
        chosen = []
        for j in range(k):
            block = philox4x32((number & 0xFFFFFFFF, number >> 32, j // 4, purpose), key)
            last = num_experts - k + j
            expert = block[j % 4] * (last + 1) >> 32
            chosen.append(last if expert in chosen else expert)
        rows.append(chosen)
    return np.array(rows), np.full((len(rows), k), 1 / k)


def hash(x, p, ids, **_):
    return draw(ids, int.from_bytes(b"hash", "big"), x.shape[1], p)


def random(x, p, **_):
    return draw(range(len(x)), int.from_bytes(b"rand", "big"), x.shape[1], p)


def sinkhorn(x, p, **_):
    cost = np.exp((x - x.max(axis=-1, keepdims=True)) / p["temperature"])
    d1 = np.ones(x.shape[1])
    for _ in range(p["sinkhorn_iters"]):
        d0 = 1 / len(x) / (cost @ d1 + 1e-8)
        d1 = 1 / x.shape[1] / (cost.T @ d0 + 1e-8)
    experts = top(d0[:, None] * cost * d1, p["top_k"])
    chosen = pick(x, experts)
    return experts, softmax(chosen) if p["top_k"] > 1 else 1 / (1 + np.exp(-chosen))


def expert_choice(x, p, **_):
    probabilities = softmax(x)
    tokens, experts = x.shape
    capacity = min(tokens, math.ceil(p["choice_capacity"] * tokens * p["top_k"] / experts))
    taken = np.zeros(x.shape, dtype=bool)
    np.put_along_axis(taken.T, top(probabilities.T, capacity), True, axis=-1)
    chosen = [sorted(np.flatnonzero(row), key=lambda e, t=t: -probabilities[t, e])
              for t, row in enumerate(taken)]
    return chosen, [probabilities[t, row] for t, row in enumerate(chosen)]


def hungarian(cost):
    """Column of each row in the cheapest perfect matching, by shortest augmenting paths."""
    n = len(cost)
    row_price, column_price = np.zeros(n + 1), np.zeros(n + 1)
    row_of, came_from = np.zeros(n + 1, dtype=int), np.zeros(n + 1, dtype=int)
    for row in range(1, n + 1):
        row_of[0], column = row, 0
        least, used = np.full(n + 1, np.inf), np.zeros(n + 1, dtype=bool)
        while row_of[column]:
            used[column] = True
            reduced = cost[row_of[column] - 1] - row_price[row_of[column]] - column_price[1:]
            better = ~used[1:] & (reduced < least[1:])
            least[1:][better], came_from[1:][better] = reduced[better], column
            free = np.where(used[1:], np.inf, least[1:])
            step = free.min()
            row_price[row_of[used]] += step
            column_price[used] -= step
            least[~used] -= step
            column = int(free.argmin()) + 1
        while column:
            row_of[column] = row_of[came_from[column]]
            column = came_from[column]
    return np.argsort(row_of[1:])


def balanced(x):
    """The balanced assignment of the largest sum: floor(T/E) slots for tokens, one more that a
    token or a dummy may have."""
    tokens, experts = x.shape
    floor, remainder = divmod(tokens, experts)
    extra = 1 if remainder else 0
    dummies = experts - remainder if remainder else 0
    expert_of_slot = np.repeat(np.arange(experts), floor).tolist() + list(range(experts)) * extra
    cost = np.zeros((tokens + dummies, len(expert_of_slot)))
    cost[:tokens] = -x[:, expert_of_slot]
    cost[tokens:, :floor * experts] = 1e9
    return np.array(expert_of_slot)[hungarian(cost)[:tokens]]


def base(x, p, **_):
    experts = balanced(x)
    best = pick(x, experts[:, None]).sum()
    for t, e in enumerate(experts):  # no other assignment is as good
        without = x.copy()
        without[t, e] = -1e6
        assert pick(x, balanced(without)[:, None]).sum() < best - 1e-9
    chosen = pick(x, experts[:, None])
    return experts[:, None], 1 / (1 + np.exp(-chosen))


def noisy_topk(x, p, noise, **_):
    seed, purpose = p["seed"], int.from_bytes(b"nois", "big")
    std = np.full(x.shape, p["noise_std"]) if noise is None else np.log1p(np.exp(noise))
    normal = np.zeros(x.shape)
    for t, e in np.ndindex(x.shape):
        words = philox4x32((t, 0, e // 4, purpose), (seed & 0xFFFFFFFF, seed >> 32))
        first, second = words[e % 4 // 2 * 2] / 2**32, words[e % 4 // 2 * 2 + 1] / 2**32
        normal[t, e] = (math.sqrt(-2 * math.log(1 - first)) *
                        (math.cos, math.sin)[e % 2](2 * math.pi * second))
    noisy = x + normal * std
    experts = top(noisy, p["top_k"])
    return experts, softmax(pick(noisy, experts))


def soft_moe(x, p, **_):
    return softmax(x.T), softmax(x)


PARAMS = dict(top_k=4, norm_topk=True, temperature=1.0, n_group=1, topk_group=1,
              routed_scaling_factor=1.0, seed=17)
CASES = {
    topk_softmax: [dict(), dict(norm_topk=False), dict(top_k=1), dict(top_k=16)],
    top1: [dict()],
    topk_uniform: [dict(), dict(top_k=3)],
    softk: [dict(temperature=0.5), dict(temperature=2.0, top_k=2)],
    sigmoid_bias: [dict(), dict(n_group=4, topk_group=2, routed_scaling_factor=2.5),
                   dict(n_group=8, topk_group=3, norm_topk=False)],
    group_limited: [dict(n_group=4, topk_group=2), dict(n_group=8, topk_group=3, norm_topk=False,
                                                        routed_scaling_factor=16.0)],
    hash: [dict(), dict(top_k=7, seed=2**40 + 3)],
    random: [dict(), dict(top_k=16, seed=5)],
    sinkhorn: [dict(sinkhorn_iters=10), dict(sinkhorn_iters=1, top_k=1),
               dict(sinkhorn_iters=50, top_k=2, temperature=0.5)],
    expert_choice: [dict(choice_capacity=1.0), dict(choice_capacity=1.25, top_k=2),
                    dict(choice_capacity=0.3, top_k=1), dict(choice_capacity=4.0)],
    base: [dict()],
    noisy_topk: [dict(noise_std=1.0), dict(noise_std=0.25, top_k=2, seed=2**40 + 3),
                 dict(noise_std=0.0), dict(noise_std=1.0, with_noise_logits=True)],
    soft_moe: [dict(slots_per_expert=2)],
}

SHAPE_EXPERTS = {base: 5}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for strategy, variants in CASES.items():
        # By name, so that a new strategy leaves the other files as they are.
        generator = np.random.RandomState(zlib.crc32(strategy.__name__.encode()))
        # Multiples of 1/64 are exact in f32 and in decimal, and make some ties.
        num_experts = SHAPE_EXPERTS.get(strategy, EXPERTS)
        x = np.round(generator.normal(0, 2, (TOKENS, num_experts)) * 64) / 64
        bias = np.round(generator.normal(0, 0.1, num_experts) * 64) / 64
        ids = [int(i) for i in generator.randint(0, 50000, TOKENS)]
        noise = np.round(generator.normal(0, 1, x.shape) * 64) / 64
        cases = []
        for changes in variants:
            params = PARAMS | changes
            with_noise = params.pop("with_noise_logits", False)
            who, weights = strategy(x, params, bias=bias, ids=ids,
                                    noise=noise if with_noise else None)
            weights = [[round(float(w), 9) for w in row] for row in weights]
            if strategy is soft_moe:
                who = [[round(float(w), 9) for w in row] for row in who]
                cases.append(dict(params=params, dispatch=who, combine=weights))
                continue
            cases.append(dict(params=params, expert=[[int(e) for e in row] for row in who],
                              weight=weights))
            if with_noise:
                cases[-1]["with_noise_logits"] = True
        golden = dict(strategy=strategy.__name__, logits=x.tolist(), bias=bias.tolist(),
                      token_ids=ids, cases=cases)
        if strategy is noisy_topk:
            golden["noise_logits"] = noise.tolist()
        lines = json.dumps(golden).replace('"cases": [', '"cases": [\n').replace('}, {', '},\n{')
        (OUT / f"routing_{strategy.__name__}.json").write_text(lines.replace('], [', '],\n[') + "\n")


if __name__ == "__main__":
    main()
