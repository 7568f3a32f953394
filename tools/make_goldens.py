#!/usr/bin/env python3
"""Writes tests/goldens/routing_<strategy>.json: routings by an independent NumPy implementation of
each strategy. Deterministic: running it again changes nothing. Usage: tools/make_goldens.py"""

import json
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
}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for strategy, variants in CASES.items():
        # By name, so that a new strategy leaves the other files as they are.
        generator = np.random.RandomState(zlib.crc32(strategy.__name__.encode()))
        # Multiples of 1/64 are exact in f32 and in decimal, and make some ties.
        x = np.round(generator.normal(0, 2, (TOKENS, EXPERTS)) * 64) / 64
        bias = np.round(generator.normal(0, 0.1, EXPERTS) * 64) / 64
        ids = [int(i) for i in generator.randint(0, 50000, TOKENS)]
        cases = []
        for changes in variants:
            params = PARAMS | changes
            experts, weights = strategy(x, params, bias=bias, ids=ids)
            cases.append(dict(params=params, expert=experts.tolist(),
                              weight=np.round(weights, 9).tolist()))
        golden = dict(strategy=strategy.__name__, logits=x.tolist(), bias=bias.tolist(),
                      token_ids=ids, cases=cases)
        lines = json.dumps(golden).replace('"cases": [', '"cases": [\n').replace('}, {', '},\n{')
        (OUT / f"routing_{strategy.__name__}.json").write_text(lines.replace('], [', '],\n[') + "\n")


if __name__ == "__main__":
    main()
