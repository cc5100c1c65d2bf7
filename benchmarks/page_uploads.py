"""Many uploads at once to tools/demo.py: how many are answered, how long it takes, how much memory the page needs."""

from __future__ import annotations

import argparse
import http.client
import io
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
BORDER = "border-of-the-parts"


def memory(process: int, field: str) -> float:
    """MiB that a process has in memory now (``VmRSS``), or had at most (``VmHWM``)."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition(f"{field}:")[2].split()[0]) / 1024


def body(network: str, width: int, height: int, seed: int) -> bytes:
    """A form with a photo-like JPEG."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(data, "jpeg", quality=90)
    head = f'--{BORDER}\r\ncontent-disposition: form-data; name="network"\r\n\r\n{network}\r\n--{BORDER}\r\n'
    head += 'content-disposition: form-data; name="file"; filename="a.jpg"\r\ncontent-type: image/jpeg\r\n\r\n'
    return head.encode() + data.getvalue() + f"\r\n--{BORDER}--\r\n".encode()


def send(port: int, data: bytes) -> tuple[int, bytes]:
    """The answer to a form."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1800)
    connection.request("POST", "/predict", data, {"content-type": f"multipart/form-data; boundary={BORDER}"})
    answer = connection.getresponse()
    return answer.status, answer.read()


def main() -> None:
    """Start the page, send, and print a line for each number of uploads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--uploads", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--size", type=int, nargs=2, default=[4000, 3000], metavar=("WIDTH", "HEIGHT"))
    args = parser.parse_args()
    network = "/".join(args.checkpoint.with_suffix("").parts[-2:])
    command = [sys.executable, str(ROOT / "tools" / "demo.py"), str(args.checkpoint), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as page:
        assert page.stdout is not None
        found = re.search(r":(\d+)$", next(line for line in page.stdout if line.startswith("page")).strip())
        assert found is not None
        port = int(found[1])
        forms = [body(network, *args.size, seed) for seed in range(4)]
        print(f"{args.size[0]} x {args.size[1]} pixels, {len(forms[0]) / 2**20:.1f} MiB each")
        print(f"before: {memory(page.pid, 'VmRSS'):.0f} MiB")
        for number in args.uploads:
            start = time.monotonic()
            with ThreadPoolExecutor(number) as pool:
                answers = list(pool.map(lambda i: send(port, forms[i % len(forms)]), range(number)))
            seconds = time.monotonic() - start
            whole = sum(status == 200 and b'class="card"' in text for status, text in answers)
            print(
                f"{number} at once: {whole} answered in {seconds:.1f} s; {memory(page.pid, 'VmHWM'):.0f} MiB at most, "
                f"{memory(page.pid, 'VmRSS'):.0f} MiB afterwards"
            )
        page.terminate()


if __name__ == "__main__":
    main()
