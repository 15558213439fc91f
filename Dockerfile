# pcace on the CPU: docker build -t pcace . && docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" pcace run
# Images, networks and conf/ are read from the working folder, and results are written to outputs/ in it.
FROM python:3.12-slim-bookworm AS build
WORKDIR /source
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/pcace
# PyTorch's builds for CPUs are a tenth of the size of those for GPUs, and are on an index of their own, whose address the page
# "Get Started" of PyTorch states: docker build --build-arg TORCH_INDEX=ADDRESS -t pcace .
ARG TORCH_INDEX=
COPY constraints.txt ./
RUN grep -E '^(torch|torchvision)==' constraints.txt > torch.txt \
 && /opt/pcace/bin/pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY conf conf
COPY data/digits_cnn.safetensors data/digits_cnn.safetensors
COPY pcace pcace
COPY pipeline pipeline
RUN grep -vE '^(torch|torchvision)==' constraints.txt > others.txt && /opt/pcace/bin/pip install -c others.txt .

FROM python:3.12-slim-bookworm
RUN useradd --create-home --uid 1000 pcace && mkdir /work && chown pcace /work
COPY --from=build /opt/pcace /opt/pcace
ENV PATH=/opt/pcace/bin:$PATH
USER 1000
WORKDIR /work
ENTRYPOINT ["pcace"]
CMD ["--help"]
