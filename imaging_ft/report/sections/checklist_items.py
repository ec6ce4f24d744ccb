"""The items of two reporting checklists, and what of each this page can answer.

CLAIM: A. S. Tejani et al., Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update, Radiology:
Artificial Intelligence 6(4), e240300; the items as they are titled there. TRIPOD+AI: G. S. Collins et al., TRIPOD+AI
statement, BMJ 385, e078378, 2024; the items in short.
"""

from dataclasses import dataclass
from typing import Literal

Extent = Literal["answers", "partly", "authors"]


@dataclass(frozen=True)
class Answer:
    """What the page says to an item, where the part of the page that it `needs` is there."""

    needs: str
    """The id of a part; `intended_use` or `pictures` where more than a part is needed."""
    extent: Literal["answers", "partly"]
    words: str


_DATA = Answer("measured", "partly", "the data set by name and fingerprint, and the split")
_USE = Answer("intended_use", "partly", "the intended use that the model file states")
_STEPS = Answer("measured", "partly", "what happens to the pixels stands in the model file, which the SHA-256 names")
_MISSING = Answer("recorded", "partly", "images without a value of a column are a row of their own")
_MODEL = Answer("measured", "partly", "backbone, task, labels, and the SHA-256 of the file")
_LIMITS = Answer("limitations", "partly", "limits of the method; the study’s own are the authors’ to add")
_LEFT_OUT = Answer("measured", "partly", "images and groups measured, images of each class, images left out")

CLAIM: dict[str, tuple[str, tuple[Answer, ...]]] = {
    "1": ("Identification as a study of AI methodology, specifying the category of technology used", ()),
    "2": ("Summary of study design, methods, results, and conclusions", ()),
    "3": ("Scientific and/or clinical background, including the intended use and role of the AI approach", (_USE,)),
    "4": ("Study aims, objectives, and hypotheses", ()),
    "5": ("Prospective or retrospective study", ()),
    "6": ("Study goal", ()),
    "7": ("Data sources", (_DATA,)),
    "8": ("Inclusion and exclusion criteria", ()),
    "9": ("Data pre-processing", (_STEPS,)),
    "10": ("Selection of data subsets", ()),
    "11": ("De-identification methods", ()),
    "12": ("How missing data were handled", (_MISSING,)),
    "13": ("Image acquisition protocol", ()),
    "14": ("Definition of method(s) used to obtain reference standard", ()),
    "15": ("Rationale for choosing the reference standard", ()),
    "16": ("Source of reference standard annotations", ()),
    "17": ("Annotation of test set", ()),
    "18": ("Measures of inter- and intra-rater variability of features described by the annotators", ()),
    "19": ("How data were assigned to partitions", ()),
    "20": (
        "Level at which partitions are disjoint",
        (Answer("measured", "partly", "images and independent groups; a warning where splits share images"),),
    ),
    "21": ("Intended sample size", ()),
    "22": ("Detailed description of model", (_MODEL,)),
    "23": (
        "Software libraries, frameworks, and packages",
        (Answer("measured", "partly", "the tool that measured, with its version"),),
    ),
    "24": ("Initialization of model parameters", ()),
    "25": ("Details of training approach", ()),
    "26": ("Method of selecting the final model", ()),
    "27": ("Ensembling techniques", ()),
    "28": ("Metrics of model performance", (Answer("overall", "answers", "every metric, with n"),)),
    "29": (
        "Statistical measures of significance and uncertainty",
        (Answer("reading", "answers", "95% intervals, and how each was made"),),
    ),
    "30": (
        "Robustness or sensitivity analysis",
        (
            Answer("worst", "answers", "accuracy under every condition and severity"),
            Answer("recorded", "partly", "accuracy by recorded column; no synthetic condition was measured"),
        ),
    ),
    "31": (
        "Methods for explainability or interpretability",
        (Answer("pictures", "partly", "class activation maps of the worst failures"),),
    ),
    "32": (
        "Evaluation on internal data",
        (Answer("overall", "partly", "the figures; whether the data are internal is the authors’ to say"),),
    ),
    "33": (
        "Testing on external data",
        (Answer("overall", "partly", "the figures; whether the data are external is the authors’ to say"),),
    ),
    "34": ("Clinical trial registration", ()),
    "35": ("Numbers of patients or examinations included and excluded", (_LEFT_OUT,)),
    "36": (
        "Demographic and clinical characteristics of cases in each partition",
        (Answer("recorded", "partly", "how many of the measured images have each recorded value"),),
    ),
    "37": (
        "Performance metrics and measures of statistical uncertainty",
        (Answer("overall", "answers", "every metric with its 95% interval"),),
    ),
    "38": (
        "Estimates of diagnostic performance and their precision",
        (Answer("overall", "answers", "sensitivity and specificity of each class with their intervals"),),
    ),
    "39": (
        "Failure analysis of incorrect results",
        (
            Answer("failures", "partly", "the failures that the model was surest of; why they occur is not analysed"),
            Answer("overall", "partly", "sensitivity class by class; single images are not shown"),
        ),
    ),
    "40": ("Study limitations", (_LIMITS,)),
    "41": ("Implications for practice, including intended use and/or clinical role", (_USE,)),
    "42": ("Provide a reference to the full study protocol or to additional technical details", ()),
    "43": ("Statement about the availability of software, trained model, and/or data", ()),
    "44": ("Sources of funding and other support; role of funders", ()),
}

TRIPOD_AI: dict[str, tuple[str, tuple[Answer, ...]]] = {
    "1": ("Title", ()),
    "2": ("Abstract", ()),
    "3a": ("Healthcare context and rationale", ()),
    "3b": ("Target population, intended purpose and intended users", (_USE,)),
    "3c": ("Known health inequalities", ()),
    "4": ("Objectives", ()),
    "5a": ("Sources of data, their rationale and representativeness", (_DATA,)),
    "5b": ("Dates of the data", ()),
    "6a": ("Study setting, number and location of centres", ()),
    "6b": ("Eligibility criteria", ()),
    "6c": ("Treatments received", ()),
    "7": ("Pre-processing and quality checking", (_STEPS,)),
    "8a": ("Definition of the outcome", ()),
    "8b": ("Qualifications of the outcome assessors", ()),
    "8c": ("Blinding of the outcome assessment", ()),
    "9a": ("Choice of initial predictors", ()),
    "9b": ("Definition of all predictors", ()),
    "9c": ("Qualifications of the predictor assessors", ()),
    "10": ("Sample size and its justification", ()),
    "11": ("Missing data", (_MISSING,)),
    "12a": ("How the data were used and partitioned", ()),
    "12b": ("How predictors were handled", ()),
    "12c": ("Type of model, model building, internal validation", ()),
    "12d": (
        "How heterogeneity across clusters was handled and quantified",
        (Answer("recorded", "partly", "accuracy by recorded value and the gap between best and worst"),),
    ),
    "12e": (
        "Measures and plots used to evaluate performance, and to compare models",
        (
            Answer("calibration", "partly", "discrimination and calibration with their plots; no clinical utility"),
            Answer("overall", "partly", "discrimination; no clinical utility"),
        ),
    ),
    "12f": ("Model updating arising from the evaluation", ()),
    "12g": (
        "How predictions were calculated for the evaluation",
        (Answer("measured", "answers", "by the model file itself, which the SHA-256 names"),),
    ),
    "13": ("Class imbalance methods", ()),
    "14": ("Approaches to model fairness", ()),
    "15": (
        "Output of the model, and how thresholds were identified",
        (Answer("measured", "partly", "task, labels, and the thresholds where there are any; not their rationale"),),
    ),
    "16": ("Differences between development and evaluation data", ()),
    "17": ("Ethical approval", ()),
    "18a": ("Funding", ()),
    "18b": ("Conflicts of interest", ()),
    "18c": ("Protocol", ()),
    "18d": ("Registration", ()),
    "18e": ("Data sharing", ()),
    "18f": ("Code sharing", ()),
    "19": ("Patient and public involvement", ()),
    "20a": ("Flow of participants, with and without the outcome", (_LEFT_OUT,)),
    "20b": (
        "Characteristics overall and by data source or setting",
        (Answer("recorded", "partly", "how many of the measured images have each recorded value"),),
    ),
    "20c": ("Comparison with the development data", ()),
    "21": ("Number of participants and outcome events in each analysis", (_LEFT_OUT,)),
    "22": ("Details of the full prediction model", (_MODEL,)),
    "23a": (
        "Performance estimates with confidence intervals, including key subgroups",
        (
            Answer("recorded", "answers", "every metric with its interval, also by recorded value"),
            Answer("overall", "partly", "every metric with its interval; no subgroup is recorded"),
        ),
    ),
    "23b": (
        "Heterogeneity in performance across clusters",
        (Answer("recorded", "partly", "by recorded value; a cluster counts where a column names it"),),
    ),
    "24": ("Results of model updating", ()),
    "25": ("Interpretation", ()),
    "26": ("Limitations", (_LIMITS,)),
    "27a": (
        "How poor-quality or unavailable input should be assessed and handled",
        (Answer("worst", "partly", "how much each loss of image quality costs; not how to handle it"),),
    ),
    "27b": ("Whether users interact with the input, and the expertise they need", ()),
    "27c": ("Next steps for research", ()),
}
