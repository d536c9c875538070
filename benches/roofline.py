#!/usr/bin/env python3
"""Draws where kernels stand between the two limits of a device.

    infer bench -m DIR -b 4 -p 64 -n 32 -B 1,16 --profile trace.json
    python3 benches/roofline.py trace.json COPY_GB_S GFLOP_S "q4/32 " > docs/roofline.svg

The two numbers are those that the bench prints below its table. Across: operations a byte of weights that is read (activations
are small beside them); up: operations a second, both by factors of ten. A point is a kernel of a shape, its area the time it takes.
The last argument is how tests begin that are drawn. Products beyond the roof are left out: not all of their rows were in use, and
a row that is not is skipped.
"""
import collections
import json
import math
import sys

WIDTH, HEIGHT, LEFT, BOTTOM = 760, 420, 60, 50
COLOURS = ["#1b6ca8", "#c8553d", "#588157", "#8d6a9f"]


def main():
    trace, copy, flops = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
    with open(trace, encoding="utf-8") as file:
        events = json.load(file)["traceEvents"]
    wanted = sys.argv[4] if len(sys.argv) > 4 else ""
    tests = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["args"]["name"].startswith(wanted)}
    sums = collections.defaultdict(lambda: [0.0, 0, 0])
    for e in events:
        if e["ph"] == "X" and e["tid"] in tests and e["args"]["operations"]:
            entry = sums[e["tid"], e["name"], e["args"]["shape"]]
            entry[0] += e["dur"] * 1e-6
            entry[1] += e["args"]["operations"]
            entry[2] += e["args"]["weight_bytes"]
    x_range, y_range = (0.0, 2.0), (math.log10(flops) - 1.5, math.log10(flops) + 0.2)

    def place(intensity, speed):
        x = (math.log10(intensity) - x_range[0]) / (x_range[1] - x_range[0])
        y = (math.log10(speed) - y_range[0]) / (y_range[1] - y_range[0])
        return LEFT + x * (WIDTH - LEFT - 20), HEIGHT - BOTTOM - y * (HEIGHT - BOTTOM - 20)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    knee = flops / copy
    roof = [place(max(10 ** y_range[0] / copy, 1), max(10 ** y_range[0], copy)), place(knee, flops), place(100, flops)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in roof)
    out.append(f'<polyline points="{points}" fill="none" stroke="#222" stroke-width="2"/>')
    for value in (1, 2, 5, 10, 20, 50, 100):
        x, _ = place(value, flops)
        out.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value}</text>')
    for value in (2, 5, 10, 20, 50):
        if y_range[0] < math.log10(value) < y_range[1]:
            _, y = place(1, value)
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    out.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">operations a byte of weights</text>')
    out.append(f'<text x="14" y="{HEIGHT / 2}" transform="rotate(-90 14 {HEIGHT / 2})" text-anchor="middle">GFLOP/s</text>')
    longest = max(entry[0] for entry in sums.values())
    for (tid, name, shape), (seconds, operations, size) in sorted(sums.items()):
        if operations / seconds / 1e9 > 1.02 * min(flops, copy * operations / size):
            continue
        x, y = place(operations / size, operations / seconds / 1e9)
        radius = 3 + 9 * math.sqrt(seconds / longest)
        colour = COLOURS[tid % len(COLOURS)]
        out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{colour}" fill-opacity="0.55">'
                   f"<title>{tests[tid]}: {name} {shape}</title></circle>")
    for i, (tid, name) in enumerate(sorted(tests.items())):
        out.append(f'<text x="{WIDTH - 30}" y="{HEIGHT - BOTTOM - 20 - 18 * i}" text-anchor="end" '
                   f'fill="{COLOURS[tid % len(COLOURS)]}">{name}</text>')
    print("\n".join(out) + "\n</svg>")


main()
