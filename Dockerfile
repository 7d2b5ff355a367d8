FROM python:3.12-slim
ARG TORCH=cpu
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /irnext
COPY Makefile requirements.txt ./
COPY pytorch-gradual-warmup-lr pytorch-gradual-warmup-lr
RUN make setup TORCH=$TORCH && rm -rf /root/.cache
COPY . .
ENV PATH=/irnext/.venv/bin:$PATH
ENTRYPOINT ["python"]
