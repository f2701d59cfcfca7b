"""Values out of range are told with their key and with what would be right."""

import pytest
from running import composed

from common.config import resolve
from common.records import StrataError

WRONG = {
    "split=word": ["split=word", "frame, utterance, speaker"],
    "device=tpu": ["device=tpu", "auto, cpu, cuda, mps"],
    "precision=fp8": ["precision=fp8", "fp32, tf32, bf16, fp16"],
    "cache=maybe": ["cache=maybe", "on, off, refresh"],
    "clear=some": ["clear=some", "stale, all"],
    "task=sing": ["task=sing", "analysis"],
    "sampling.folds=2": ["sampling.folds=2", "a third one to train on", "at least 3"],
    "sampling.trials=11": ["sampling.folds=10", "sampling.trials=11", "at least 11"],
    "sampling.trials=0": ["sampling.trials=0", "at least 1"],
    "sampling.samples=0": ["sampling.samples=0", "at least 1"],
    "sampling.instances=0": ["sampling.instances=0", "at least 1"],
    "model.batch_size=0": ["model.batch_size=0", "at least 1"],
    "dataset.limit=0": ["dataset.limit=0", ">= 1"],
    "dataset.minutes=0": ["dataset.minutes=0", "more than 0"],
    "layers.index=-1": ["layers.index=-1", "at least 0"],
    "layers.indices=[X3]": ["layers.indices", "X3", "C1"],
    "layers.select=single": ["layers=single", "layers.index=3"],
    "experiments.cca_intra.target.layer=last": ["target.layer=last", "T0"],
    "experiments.cca_intra.target.layer=null": ["target.layer=null", "T0"],
    "experiments.cca_mel.unit=syllable": ["unit=syllable", "target mel", "units frame"],
    "experiments.cca_phone.pooling=median": ["pooling=median", "middle_third"],
    "experiments.cca_phone.unit=utterance": ["unit=utterance", "target phone", "phone, frame"],
    "experiments.cca_intra.target.layer=X3": ["target.layer", "X3", "T0"],
    "experiments.cca_phone.split=word": ["split=word", "speaker_else_utterance"],
    "experiments.cca_mel.parts=[rnn]": ["parts=rnn", "cnn, transformer"],
    "experiments.cca_mel.metric.ridges=[]": ["ridges"],
    "experiments.cca_mel.metric.ridges=[[-1,1]]": ["ridges", "-1"],
    "experiments.cca_mel.metric.ridges=[[0,0],[0.1,0.1]]": ["2 pairs", "one [layer, target] pair"],
    "pretrain.steps=0": ["pretrain.steps=0", "at least 1"],
    "pretrain.units=1": ["pretrain.units=1", "at least 2"],
    "pretrain.mask_prob=1.5": ["pretrain.mask_prob=1.5", "up to 1"],
    "pretrain.valid_share=0": ["pretrain.valid_share=0", "more than 0"],
    "pretrain.crop_seconds=60": ["pretrain.crop_seconds=60", "batch_seconds=32"],
    "pretrain.snapshots=[0.5,2]": ["pretrain.snapshots", "up to 1"],
    "pretrain.temperature=[1]": ["pretrain.temperature", "[first, last]"],
    "pretrain.teacher=tests": ["pretrain.teacher_layer=None", "give both"],
    "pretrain.start=no/where": ["pretrain.start=no/where", "snapshots"],
    "finetune.updates=0": ["finetune.updates=0", "at least 1"],
    "finetune.processes=0": ["finetune.processes=0", "at least 1"],
    "finetune.reinit_top=-1": ["finetune.reinit_top=-1", "at least 0"],
    "finetune.reinit_layers=[C3]": ["finetune.reinit_layers", "C3", "T1"],
    "finetune.subset=10": ["subset=10", "10m"],
    "finetune.stages=[0.1,0.1]": ["finetune.stages", "[rising, holding, falling]"],
    "finetune.betas=[0.9]": ["finetune.betas=[0.9]", "Adam's two"],
    "finetune.eps=0": ["finetune.eps=0", "more than 0"],
    "finetune.checkpoint_minutes=0": ["finetune.checkpoint_minutes=0", "more than 0"],
    "finetune.gradient_clip=-1": ["finetune.gradient_clip=-1", "at least 0"],
    "finetune.mask_time_length=0": ["finetune.mask_time_length=0", "at least 1"],
    "finetune.max_seconds=90": ["finetune.max_seconds=90", "batch_seconds=16"],
    "finetune.layerdrop=1": ["finetune.layerdrop=1", "below 1"],
    "finetune.characters=words": ["finetune.characters=words", "text, checkpoint"],
    "finetune.valid.speaker_share=2": ["finetune.valid.speaker_share=2", "below 1"],
    "finetune.lm.path=/no/where.arpa": ["finetune.lm.path=/no/where.arpa", "no such file"],
    "tracking.mode=live": ["tracking.mode=live", "online, offline, disabled"],
}


@pytest.mark.parametrize("override", WRONG)
def test_a_value_out_of_range_is_told_with_its_key_and_what_would_be_right(override: str) -> None:
    config = composed(()).copy()
    config.merge_with_dotlist([override])
    with pytest.raises(StrataError) as raised:
        resolve(config)
    for part in WRONG[override]:
        assert part in str(raised.value)
