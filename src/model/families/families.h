// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/family.h"

namespace peregrine::model {

/// Le Scao et al. 2022: BLOOM, BLOOMZ.
extern const Family kBloomFamily;
/// Almazrouei et al. 2023: Falcon 7B, 40B, 11B (Falcon 2), RW 1B and 7B.
extern const Family kFalconFamily;
/// Gemma Team 2024: Gemma 1, CodeGemma.
extern const Family kGemmaFamily;
/// Gemma Team 2024: Gemma 2.
extern const Family kGemma2Family;
/// Radford et al. 2019: GPT-2 and its many descendants.
extern const Family kGpt2Family;
/// Allal et al. 2023, Li et al. 2023: SantaCoder, StarCoder.
extern const Family kGptBigCodeFamily;
/// Wang and Komatsuzaki 2021: GPT-J-6B.
extern const Family kGptJFamily;
/// Black et al. 2022: GPT-NeoX-20B, Pythia, Dolly.
extern const Family kGptNeoxFamily;
/// Touvron et al. 2023: Llama 1 to 3.2.
extern const Family kLlamaFamily;
/// Jiang et al. 2023: Mistral 7B, Mistral Nemo.
extern const Family kMistralFamily;
/// Jiang et al. 2024: Mixtral 8x7B, 8x22B.
extern const Family kMixtralFamily;
/// MosaicML 2023: MPT-7B, MPT-30B.
extern const Family kMptFamily;
/// Zhang et al. 2022: OPT.
extern const Family kOptFamily;
/// Li et al. 2023: Phi-1, 1.5 and 2.
extern const Family kPhiFamily;
/// Abdin et al. 2024: Phi-3, Phi-3.5, Phi-4.
extern const Family kPhi3Family;
/// Yang et al. 2024: Qwen2, Qwen2.5.
extern const Family kQwen2Family;
/// Qwen Team 2024: Qwen1.5-MoE, Qwen2-57B-A14B.
extern const Family kQwen2MoeFamily;
/// Yang et al. 2025: Qwen3.
extern const Family kQwen3Family;
/// Yang et al. 2025: Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder.
extern const Family kQwen3MoeFamily;
/// Bellagente et al. 2024: StableLM 2, StableLM 3B.
extern const Family kStableLmFamily;
/// Lozhkov et al. 2024: StarCoder2.
extern const Family kStarcoder2Family;
/// Raffel et al. 2020: T5, Flan-T5, mT5, UL2.
extern const Family kT5Family;

}  // namespace peregrine::model
