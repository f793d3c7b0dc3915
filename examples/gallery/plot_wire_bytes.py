"""
What is in a packet, byte by byte?
==================================

The scale, then an entry for each non-zero. Here a message of eight coordinates with three non-zeros takes 7 bytes in
the varint code: 4 for the scale and one for each entry, which holds the gap, the level and the sign.
"""

import matplotlib.pyplot as plt

import qsim

message = qsim.batch.Levels.single([0, -3, 0, 1, 0, 0, 0, 2], scale=1.5, s=3)
codec = qsim.codecs.Varint()
header, packet = codec.header(message), codec.encode(message)[0]
print("header", header.hex(" "), "(sent once)")
print("packet", packet.hex(" "))

# %%
# An entry is (gap - 1) << width | (level - 1), then the sign, with two bits for the level where s = 3
# (:doc:`/wire-format`).

said, place = ["scale"] * 4, -1
for byte in packet[4:]:
    sign, level, gap = byte & 1, (byte >> 1 & 3) + 1, (byte >> 3) + 1
    place += gap
    said.append(f"gap {gap}\nlevel {'-' if sign else '+'}{level}\nplace {place}")

fig, ax = plt.subplots(figsize=(6, 1.6))
for i, (byte, text) in enumerate(zip(packet, said, strict=True)):
    ax.add_patch(plt.Rectangle((i, 0), 0.95, 1, color="C0" if text == "scale" else "C1", alpha=0.4, lw=0))
    ax.text(i + 0.47, 0.5, f"{byte:08b}\n0x{byte:02x}", ha="center", va="center", family="monospace")
    ax.text(i + 0.47, -0.12, text, ha="center", va="top")
ax.set(xlim=(0, len(packet)), ylim=(-1, 1))
ax.axis("off")
plt.show()

assert len(packet) == 7
assert "place 7" in said[-1]
