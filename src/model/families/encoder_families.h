// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/encoder_family.h"

namespace peregrine::model {

/// Devlin et al. 2018: BERT and the many sentence encoders that are BERTs.
extern const EncoderFamily kBertFamily;
/// Sanh et al. 2019: DistilBERT.
extern const EncoderFamily kDistilBertFamily;
/// Clark et al. 2020: ELECTRA.
extern const EncoderFamily kElectraFamily;
/// Liu et al. 2019, Conneau et al. 2019, Martin et al. 2019: RoBERTa, XLM-RoBERTa, CamemBERT.
extern const EncoderFamily kRobertaFamily;
/// Raffel et al. 2020, Ni et al. 2021: the encoders of T5 models, alone (Sentence-T5).
extern const EncoderFamily kT5EncoderFamily;

}  // namespace peregrine::model
