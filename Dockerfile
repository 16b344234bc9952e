# CPU image: docker build -t epochcast . && docker run --rm -v "$PWD/results:/epochcast/results" epochcast
FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /epochcast
COPY requirements.txt ./
RUN python3.11 -m venv .venv && .venv/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY . .
RUN .venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation -e .
CMD [".venv/bin/epochcast", "demo", "--device", "cpu"]
