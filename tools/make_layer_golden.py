#!/usr/bin/env python3
"""Writes tests/goldens/layer.json: whole MoE layers computed by NumPy in double precision.

An implementation of its own: it shares nothing with the library, so that a formula misread there is
noticed. Inputs are small integers over 32, exact in every dtype. Run from the repository's root:

    python3 tools/make_layer_golden.py
"""
import json
import math

import numpy as np

SCALE = 32


def integers(rng, *shape):
    return rng.integers(-40, 41, shape)


def activate(name, x):
    if name == "silu":
        return x / (1 + np.exp(-x))
    if name == "gelu":
        return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return np.maximum(x, 0)


def ffn(x, w, name):
    up = x @ w["up"].T
    hidden = activate(name, x @ w["gate"].T) * up if "gate" in w else activate(name, up)
    return hidden @ w["down"].T


def draw_ffn(rng, gated, ffn_size, hidden):
    w = {"up": integers(rng, ffn_size, hidden), "down": integers(rng, hidden, ffn_size)}
    if gated:
        w["gate"] = integers(rng, ffn_size, hidden)
    return w


def as_floats(w):
    return {name: value / SCALE for name, value in w.items()}


def case(name, seed, tokens, hidden, ffn_size, experts, top_k, activation, gated, norm, shared):
    rng = np.random.default_rng(seed)
    x = integers(rng, tokens, hidden)
    router = integers(rng, experts, hidden)
    weights = [draw_ffn(rng, gated, ffn_size, hidden) for _ in range(experts)]
    common = draw_ffn(rng, gated, ffn_size + 1, hidden) if shared else None
    common_gate = integers(rng, hidden) if shared else None

    xs = x / SCALE
    logits = xs @ (router / SCALE).T
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    out = np.zeros((tokens, hidden))
    chosen = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]
    for t in range(tokens):
        p = probabilities[t, chosen[t]]
        if norm:
            p = p / p.sum()
        for weight, e in zip(p, chosen[t]):
            out[t] += weight * ffn(xs[t], as_floats(weights[e]), activation)
        if shared:
            scale = 1 / (1 + math.exp(-(xs[t] @ (common_gate / SCALE))))
            out[t] += scale * ffn(xs[t], as_floats(common), activation)

    record = {"name": name, "tokens": tokens, "hidden": hidden, "ffn": ffn_size,
              "experts": experts, "top_k": top_k, "activation": activation, "gated": gated,
              "norm_topk": norm, "scale": SCALE, "x": x.ravel().tolist(),
              "router": router.ravel().tolist(), "chosen": chosen.ravel().tolist(),
              "out": [float(f"{v:.12g}") for v in out.ravel()]}
    for part in ("gate", "up", "down") if gated else ("up", "down"):
        record[part] = np.concatenate([w[part].ravel() for w in weights]).tolist()
        if shared:
            record["shared_" + part] = common[part].ravel().tolist()
    if shared:
        record["shared_gate_vector"] = common_gate.tolist()
    return record


def main():
    cases = [
        case("gated_silu", 1, 5, 6, 4, 4, 2, "silu", True, True, False),
        case("gated_silu_raw_probabilities", 2, 4, 5, 3, 5, 3, "silu", True, False, False),
        case("plain_gelu", 3, 4, 6, 5, 3, 2, "gelu", False, True, False),
        case("plain_relu_one_expert_each", 4, 6, 4, 4, 4, 1, "relu", False, False, False),
        case("shared_with_gate", 5, 5, 6, 4, 3, 2, "silu", True, True, True),
    ]
    lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
    with open("tests/goldens/layer.json", "w", encoding="ascii") as f:
        f.write("[\n" + lines + "\n]\n")


if __name__ == "__main__":
    main()
