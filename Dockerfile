# A folder of photos, searched in the browser and by programs: see docs/how-to/docker.md.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 app
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY tripletcl tripletcl
COPY configs configs
# Where CPU builds of torch are, which are gigabytes smaller: docker build --build-arg TORCH_INDEX=URL
ARG TORCH_INDEX=
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url $TORCH_INDEX} torch torchvision
RUN pip install --no-cache-dir ".[ui,media,watch]"

USER app
VOLUME ["/photos", "/runs"]
EXPOSE 7860
# The token comes from the environment: TRIPLETCL_TOKEN.
CMD ["sh", "-c", "tripletcl photos /photos --out /runs/photos --no-serve && exec tripletcl serve /runs/photos --host 0.0.0.0"]
