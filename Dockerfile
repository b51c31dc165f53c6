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

# A volume begins as the folder is here: of another user's, nothing could be written.
RUN install --directory --owner app --group app /photos /runs
USER app
VOLUME ["/photos", "/runs"]
EXPOSE 7860
# It is well when the server can be reached; the first start reads all photos before that.
HEALTHCHECK --start-period=1h --interval=30s --timeout=10s \
    CMD ["python", "-c", "from socket import create_connection; create_connection(('127.0.0.1', 7860), 5).close()"]
# The token comes from the environment: TRIPLETCL_TOKEN.
CMD ["sh", "-c", "tripletcl photos /photos --out /runs/photos --no-serve && exec tripletcl serve /runs/photos --host 0.0.0.0"]
