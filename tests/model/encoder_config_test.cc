// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "model/encoder_family.h"
#include "model/encoder_support.h"
#include "model/random_models.h"
#include "model/support.h"
#include "model_info/model_info.h"

namespace peregrine::model {
namespace {

using core::ErrorKind;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

EncoderConfig read_encoder(const std::string& text) {
  const auto directory = model_info::ModelDirectory::parse("model", text, std::nullopt);
  const auto& info = directory.info();
  const EncoderFamily* family = find_encoder_family(info.architecture, info.model_type);
  if (family == nullptr) throw std::runtime_error("no encoder: " + info.architecture);
  return family->read_config(directory.config(), info.architecture);
}

EncoderConfig read_bert(const std::string& more, std::string_view architecture = "BertModel") {
  return read_encoder(bert_config({}, architecture, "bert", more));
}

std::string with(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

constexpr const char* kDistilBert =
    R"({"architectures": ["DistilBertForSequenceClassification"], "model_type": "distilbert",
  "vocab_size": 20, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 30,
  "activation": "gelu", "sinusoidal_pos_embds": true})";

TEST(EncoderConfigs, FamiliesReadTheirOwnNames) {
  const auto bert = read_bert("");
  EXPECT_EQ(bert.family, "bert");
  EXPECT_EQ(bert.vocab_size, 50);
  EXPECT_EQ(bert.hidden_size, 24);
  EXPECT_EQ(bert.heads, 3);
  EXPECT_EQ(bert.head_dim, 8);
  EXPECT_EQ(bert.layers, 2);
  EXPECT_EQ(bert.intermediate_size, 37);
  EXPECT_EQ(bert.max_positions, 40);
  EXPECT_EQ(bert.learned.rows, 40);
  EXPECT_EQ(bert.learned.offset, 0);
  EXPECT_EQ(bert.padding_id, -1);
  EXPECT_EQ(bert.token_types, 2);
  EXPECT_EQ(bert.norm_epsilon, 1e-12f);
  EXPECT_EQ(bert.residual, ResidualOrder::kPostNorm);
  EXPECT_FLOAT_EQ(bert.attention_scale, 1.0f / std::sqrt(8.0f));
  EXPECT_TRUE(bert.head.has_pooler);
  EXPECT_THAT(bert.head.labels, IsEmpty());

  const auto distilbert = read_encoder(kDistilBert);
  EXPECT_EQ(distilbert.hidden_size, 8);
  EXPECT_EQ(distilbert.intermediate_size, 12);
  EXPECT_EQ(distilbert.layers, 2);
  EXPECT_EQ(distilbert.heads, 2);
  EXPECT_EQ(distilbert.token_types, 0);
  EXPECT_EQ(distilbert.head.pooler_activation, ops::Activation::kRelu);
  EXPECT_THAT(distilbert.head.labels, ElementsAre("LABEL_0", "LABEL_1"));
}

TEST(EncoderConfigs, RobertaPositionsBeginBehindThePaddingToken) {
  const auto roberta = read_encoder(bert_config({}, "RobertaModel", "roberta"));
  EXPECT_EQ(roberta.padding_id, 1);
  EXPECT_EQ(roberta.learned.rows, 40);
  EXPECT_EQ(roberta.learned.offset, 2);
  EXPECT_EQ(roberta.max_positions, 38);
  const auto moved = read_encoder(bert_config({}, "CamembertModel", "camembert", R"("pad_token_id": 5, )"));
  EXPECT_EQ(moved.learned.offset, 6);
  EXPECT_EQ(moved.max_positions, 34);
  const auto error =
      caught([] { read_encoder(bert_config({}, "RobertaModel", "roberta", R"("pad_token_id": 39, )")); });
  EXPECT_EQ(error.kind, ErrorKind::kInvalidArgument);
  EXPECT_THAT(error.message,
              AllOf(HasSubstr("max_position_embeddings (40)"), HasSubstr("pad_token_id (39)")));
}

TEST(EncoderConfigs, ElectraProjectsOnlyNarrowerEmbeddings) {
  const auto narrow = read_encoder(bert_config({}, "ElectraModel", "electra", R"("embedding_size": 16, )"));
  EXPECT_EQ(narrow.embedding_size, 16);
  EXPECT_EQ(narrow.embedding_width(), 16);
  EXPECT_FALSE(narrow.head.has_pooler);
  const auto equal = read_encoder(bert_config({}, "ElectraModel", "electra", R"("embedding_size": 24, )"));
  EXPECT_EQ(equal.embedding_size, 0);
  EXPECT_EQ(equal.embedding_width(), 24);
}

TEST(EncoderConfigs, TheArchitectureDecidesTheHead) {
  struct Case {
    const char* architecture;
    const char* type;
    bool pooler;
    std::size_t labels;
    ops::Activation activation;
  };
  for (const auto& known : std::vector<Case>{
           {"BertModel", "bert", true, 0, ops::Activation::kTanh},
           {"BertForPreTraining", "bert", true, 0, ops::Activation::kTanh},
           {"BertForMaskedLM", "bert", false, 0, ops::Activation::kTanh},
           {"BertForSequenceClassification", "bert", true, 2, ops::Activation::kTanh},
           {"RobertaForMaskedLM", "roberta", false, 0, ops::Activation::kTanh},
           {"XLMRobertaModel", "xlm-roberta", true, 0, ops::Activation::kTanh},
           {"XLMRobertaForMaskedLM", "xlm-roberta", false, 0, ops::Activation::kTanh},
           {"XLMRobertaForSequenceClassification", "xlm-roberta", true, 2, ops::Activation::kTanh},
           {"CamembertForSequenceClassification", "camembert", true, 2, ops::Activation::kTanh},
           {"ElectraForPreTraining", "electra", false, 0, ops::Activation::kTanh},
           {"ElectraForMaskedLM", "electra", false, 0, ops::Activation::kTanh},
           {"ElectraForSequenceClassification", "electra", true, 2, ops::Activation::kGelu},
           // A file that names no class is of the plain model.
           {"bert", "bert", true, 0, ops::Activation::kTanh},
       }) {
    const auto config = read_encoder(bert_config({}, known.architecture, known.type));
    EXPECT_EQ(config.head.has_pooler, known.pooler) << known.architecture;
    EXPECT_EQ(config.head.labels.size(), known.labels) << known.architecture;
    EXPECT_EQ(config.head.pooler_activation, known.activation) << known.architecture;
  }
}

TEST(EncoderConfigs, LabelsComeInTheOrderOfTheirNumbers) {
  const auto labels = [](const std::string& more) {
    return read_bert(more, "BertForSequenceClassification").head.labels;
  };
  // "10" sorts before "2" as text.
  EXPECT_THAT(labels(R"("id2label": {"10": "k", "2": "c", "0": "a", "1": "b", "3": "d", "4": "e", "5": "f",
      "6": "g", "7": "h", "8": "i", "9": "j"}, )"),
              ElementsAre("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"));
  EXPECT_THAT(labels(R"("num_labels": 3, )"), ElementsAre("LABEL_0", "LABEL_1", "LABEL_2"));
  EXPECT_THAT(labels(R"("id2label": {"0": 7}, )"), ElementsAre("7"));
  EXPECT_THAT(labels(""), ElementsAre("LABEL_0", "LABEL_1"));
}

TEST(EncoderConfigs, WrongLabelsAreRefused) {
  const auto error = [](const std::string& more) {
    return caught([&] { read_bert(more, "BertForSequenceClassification"); });
  };
  for (const char* more :
       {R"("id2label": {"0": "a", "2": "b"}, )", R"("id2label": {"0": "a", "x": "b"}, )",
        R"("id2label": {"0": "a", "-1": "b"}, )", R"("id2label": {"": "a"}, )",
        R"("id2label": {"0": "a", "00": "b"}, )", R"("id2label": {"0": "a", "99999999999999999999": "b"}, )",
        R"("id2label": {}, )", R"("id2label": ["a"], )", R"("id2label": {"0": [1]}, )",
        R"("num_labels": 0, )", R"("num_labels": 1e9, )"}) {
    const auto caught = error(more);
    EXPECT_EQ(caught.kind, ErrorKind::kInvalidArgument) << more << caught.message;
    EXPECT_THAT(caught.message, AllOf(HasSubstr("model/config.json"), HasSubstr("label"))) << more;
  }
}

TEST(EncoderConfigs, WhatWouldChangeResultsIsRefusedByName) {
  for (const auto& [more, name] : std::vector<std::pair<const char*, const char*>>{
           {R"("position_embedding_type": "relative_key", )", "position_embedding_type"},
           {R"("is_decoder": true, )", "is_decoder"},
           {R"("add_cross_attention": true, )", "add_cross_attention"},
           {R"("is_encoder_decoder": true, )", "is_encoder_decoder"},
           {R"("pruned_heads": {"1": [0]}, )", "pruned_heads"},
           {R"("quantization_config": {}, )", "quantization_config"}}) {
    const auto error = caught([&] { read_bert(more); });
    EXPECT_EQ(error.kind, ErrorKind::kUnsupported) << more;
    EXPECT_THAT(error.message, HasSubstr(name));
  }
  read_bert(R"("position_embedding_type": "absolute", "is_decoder": false, "pruned_heads": {}, )");
  const auto mish = with(bert_config({}, "BertModel", "bert"), "gelu", "mish");
  EXPECT_THAT(caught([&] { read_encoder(mish); }).message, AllOf(HasSubstr("hidden_act"), HasSubstr("mish")));
}

TEST(EncoderConfigs, WrongSizesAreRefused) {
  const std::string text = bert_config({}, "BertModel", "bert");
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"\"hidden_size\": 24", "\"hidden_size\": 0"},
           {"\"hidden_size\": 24", "\"hidden_size\": 25"},
           {"\"hidden_size\": 24", "\"hidden_size\": 4294967296"},
           {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2.5"},
           {"\"intermediate_size\": 37", "\"intermediate_size\": -1"},
           {"\"type_vocab_size\": 2", "\"type_vocab_size\": 0"},
           {"\"max_position_embeddings\": 40", "\"max_position_embeddings\": null, \"n_positions\": 0"},
           {"\"layer_norm_eps\": 1e-12", "\"layer_norm_eps\": \"x\""}}) {
    EXPECT_EQ(caught([&] { read_encoder(with(text, from, to)); }).kind, ErrorKind::kInvalidArgument) << to;
  }
}

TEST(EncoderConfigs, UnknownArchitecturesAreNamedWithAllThereAre) {
  EXPECT_EQ(find_encoder_family("BertForTokenClassification", "bert"), nullptr);
  EXPECT_EQ(find_encoder_family("FalconForCausalLM", "falcon"), nullptr);
  EXPECT_EQ(find_encoder_family("", "xlm-roberta"), find_encoder_family("XLMRobertaModel", "xlm-roberta"));
  const auto error = caught([] { find_family("BertForTokenClassification", "bert"); });
  EXPECT_EQ(error.kind, ErrorKind::kUnsupported);
  EXPECT_THAT(error.message, HasSubstr("'BertForTokenClassification'"));
  for (const EncoderFamily* family : encoder_families()) {
    for (const auto name : family->architectures) EXPECT_THAT(error.message, HasSubstr(std::string(name)));
  }
  EXPECT_THAT(error.message, HasSubstr("FalconForCausalLM"));
}

TEST(EncoderConfigs, TheNamedShapeIsThatOfThePublishedModel) {
  const auto base = read_encoder(random_model_config("bert-base"));
  EXPECT_EQ(base.hidden_size, 768);
  EXPECT_EQ(base.layers, 12);
  EXPECT_EQ(base.heads, 12);
  EXPECT_EQ(base.max_positions, 512);
  EXPECT_EQ(read_encoder(random_model_config("bert-base:layers=2,vocab=64")).layers, 2);
}

}  // namespace
}  // namespace peregrine::model
